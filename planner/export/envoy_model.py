"""The Lua of the Envoy target: it gives a request's model the name that a pool knows it by.

Envoy sees no JSON. The script walks over the body's strings and brackets, so that only a "model" of
the outermost object is renamed: not one inside a prompt, a tool or metadata. Every such key is
renamed, for readers differ in which of two they take, and whether they tell "Model" from "model".

What it cannot rename it refuses with 400, else a client could choose among all models that our key
is good for: a body that is no JSON object, that has no "model" or not as a string, that has an
escape in an outermost key (a way to write "model" that the script does not read). It refuses bodies
of more than MOST_MARKS quotes and brackets, too: while it runs, the thread serves nobody else.
"""

from __future__ import annotations

import json

MOST_MARKS = 1_000_000  # a fifth of a second; a prompt of a million tokens has a tenth of them

_SCRIPT = """\
local NAME = @NAME@
local MOST_MARKS = @MOST_MARKS@
local REFUSAL = @REFUSAL@
local QUOTE, BACKSLASH, OPEN_OBJECT, OPEN_LIST = 34, 92, 123, 91

-- Returns the text with its outermost models renamed; nil where that cannot be done.
local function renamed(text)
  local n_marks = 0

  -- Returns where the string that begins at `from` ends: the next quote that is not escaped.
  local function end_of_string(from)
    local at, before = from, nil
    repeat
      n_marks = n_marks + 1
      at = text:find('"', at + 1, true)
      if not at or n_marks > MOST_MARKS then return nil end
      before = at - 1
      while text:byte(before) == BACKSLASH do before = before - 1 end
    until (at - before) % 2 == 1
    return at
  end

  local parts, kept, depth = {}, 1, 0
  local at = text:find('["{}%[%]]')
  while at do
    n_marks = n_marks + 1
    if n_marks > MOST_MARKS then return nil end
    local mark, stop = text:byte(at), at
    if mark == QUOTE then
      stop = end_of_string(at)
      if not stop then return nil end
      local value = depth == 1 and text:match('^%s*:%s*()', stop + 1)
      if value then
        local key = text:sub(at + 1, stop - 1)
        if key:find('\\\\', 1, true) then return nil end
        if key:lower() == 'model' then
          stop = text:byte(value) == QUOTE and end_of_string(value)
          if not stop then return nil end
          parts[#parts + 1] = text:sub(kept, value - 1)
          parts[#parts + 1] = NAME
          kept = stop + 1
        end
      end
    elseif mark == OPEN_OBJECT or mark == OPEN_LIST then
      depth = depth + 1
    else
      depth = depth - 1
    end
    at = text:find('["{}%[%]]', stop + 1)
  end
  if kept == 1 then return nil end
  return table.concat(parts) .. text:sub(kept)
end

function envoy_on_request(handle)
  local body = handle:body()
  local text = body and renamed(body:getBytes(0, body:length()))
  if not text then
    handle:respond({[':status'] = '400', ['content-type'] = 'application/json'}, REFUSAL)
    return
  end
  handle:headers():replace('content-length', body:setBytes(text))
end
"""


def renaming(model_name: str) -> str:
    """Returns a script that renames a request's model to this, and refuses what has none."""
    said = 'a request must be a JSON object with a "model", and no key of it may hold an escape'
    error = {"error": {"message": said, "type": "invalid_request_error", "code": 400}}
    script = _SCRIPT.replace("@MOST_MARKS@", str(MOST_MARKS))
    script = script.replace("@REFUSAL@", _literal(json.dumps(error)))
    return script.replace("@NAME@", _literal(json.dumps(model_name)))


def _literal(text: str) -> str:
    """Returns ASCII text as a literal of Lua, which reads \\" and \\\\ as JSON does."""
    return json.dumps(text)
