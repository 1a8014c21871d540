"""Result files of evaluation tools, one file per format: `recognises` and `parse`."""
