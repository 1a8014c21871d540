"""The review of a plan and of what changes about it, as a comment on a pull request.

comment  the whole of it, and what it leaves out where there is no room: `review_markdown`
verdict  its first line: safe, not safe, not judged
tables   money, quality, GPUs; latency limits
way      the steps from the old plan to the new one
facts    what else there is to know, a line each
blocks   rows under heads, in so many lines at most
escape   text from files, which must stay text
"""
