"""The operators' verbs as one Redis Function library, generated from the same files as the scripts.

What belongs here: from the scripts with an FCALL row to one library text. What does not: loading it (`cli`).
Invariant: a verb does exactly what its script does; it is given one key and named arguments, and derives the
other keys from that key, which all lie under the same hash tag. Of a script's list of arguments it takes one.

    redis-cli FCALL lukhas_extend 1 'lukhas:{default}:ctx:<id>' ttl_ms 7200000
"""

from __future__ import annotations

import hashlib
from functools import cache

from lukhas_redis.scripts import Script, load, lua_folder, script_names

LIBRARY = "lukhas"

_RUNNER = """
local function encoded(text)
  return (string.gsub(text, '[^%w_.~-]', function(c) return string.format('%%%02X', string.byte(c)) end))
end

-- Named arguments as a table, with the verb's defaults; unknown and missing names, and names given twice, are refused
-- by name.
local function named(verb, words)
  local args = {}
  for i = 1, #words, 2 do
    if not verb.known[words[i]] or not words[i + 1] or args[words[i]] then
      error({err = 'LKARGUMENT name=' .. (verb.known[words[i]] and words[i] or 'unknown') .. ' takes=' .. verb.takes})
    end
    args[words[i]] = words[i + 1]
  end
  for _, arg in ipairs(verb.args) do
    args[arg[1]] = args[arg[1]] or arg[2]
  end
  return args
end

-- Whether the operator gave the key that the verb is about; a session's contexts can be listed, too.
local function is_own(verb, name, id)
  if verb.key == 'ctx' then return id ~= nil end
  return name == verb.own or (verb.key == 'members' and string.match(name, '^session:.') ~= nil)
end

-- The keys and arguments of a script, from the one key the operator gave.
local function run(verb, body, given, words)
  if #given ~= 1 then error({err = 'LKARGUMENT name=keys takes=1'}) end
  local base, name = string.match(given[1], '^([^{}]+:{[^{}]+}:)(.+)$')
  local id = base and string.match(name, '^ctx:(.+)$')
  if not base or not is_own(verb, name, id) then error({err = 'LKARGUMENT name=key takes=' .. verb.pattern}) end
  local args = named(verb, words)
  if verb.known.id then args.id = id end
  if verb.known.sid then args.sid = redis.call('HGET', given[1], 'session') or '' end
  local names = {id = id or '', session = encoded(args.sid or ''), request_id = args.request_id or '',
    group = args.group or ''}
  local keys, list = {}, {}
  for i, key in ipairs(verb.keys) do
    local made = string.gsub(key[2], '<(%a+[_%a]*)>', names)
    keys[i] = key[1] == verb.key and given[1] or base .. made
  end
  for i, arg in ipairs(verb.args) do
    if not args[arg[1]] then error({err = 'LKARGUMENT name=' .. arg[1] .. ' takes=' .. verb.takes}) end
    list[i] = args[arg[1]]
  end
  return body(keys, list)
end
"""


def verbs() -> tuple[Script, ...]:
    """The scripts that operators may call by name."""
    return tuple(script for script in map(load, script_names()) if script.fcall)


@cache
def library() -> str:
    """The text for `FUNCTION LOAD REPLACE`."""
    parts = ["#!lua name=" + LIBRARY, *_includes(), _RUNNER.strip()]
    parts += [_verb(script) for script in verbs()]
    parts.append(_version(_digest(parts)))
    return "\n".join(parts) + "\n"


def library_version() -> str:
    """What `FCALL lukhas_version 0` answers when the library on the server is this one."""
    return library().rsplit("-- version ", 1)[1].strip()


def _includes() -> list[str]:
    """Every include of every verb once, each after those it includes."""
    names = dict.fromkeys(name for script in verbs() for name in script.includes)
    folder = lua_folder() / "includes"
    return [_without_directives((folder / f"{name}.lua").read_text(encoding="utf-8")) for name in names]


def _without_directives(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("--- @include"))


def _verb(script: Script) -> str:
    flags = ", ".join(f"'{flag}'" for flag in script.flags)
    return (
        f"local function verb_{script.name}(KEYS, ARGV)\n{_own_code(script)}\nend\n"
        f"local contract_{script.name} = {_contract(script)}\n"
        f"redis.register_function{{function_name = 'lukhas_{script.name}', flags = {{{flags}}}, "
        f"description = {_quoted(script.summary)},\n"
        f"  callback = function(keys, args) return run(contract_{script.name}, verb_{script.name}, keys, args) end}}"
    )


def _own_code(script: Script) -> str:
    """The lines of the script itself, without its includes and its header."""
    lines = zip(script.text.splitlines(), script.origins, strict=True)
    own = [line for line, (file, _) in lines if file == f"{script.name}.lua" and not line.startswith("#!")]
    return "\n".join(f"  {line}" if line else "" for line in own if not line.startswith("--"))


def _contract(script: Script) -> str:
    keys = ", ".join(f"{{'{row.name}', '{row.pattern.split('}:', 1)[1]}'}}" for row in script.keys)
    args = ", ".join(
        f"{{'{row.name}', {_quoted(row.default)}}}" if row.default is not None else f"{{'{row.name}'}}"
        for row in script.args
    )
    known = ", ".join(f"{row.name} = true" for row in script.args)
    pattern = next(row.pattern for row in script.keys if row.name == script.fcall)
    own = pattern.split("}:", 1)[1]
    takes = ",".join(row.name for row in script.args if row.name not in ("id", "sid"))
    return (
        f"{{key = '{script.fcall}', own = '{own}', pattern = '{pattern}', "
        f"keys = {{{keys}}}, args = {{{args}}}, known = {{{known}}}, takes = '{takes}'}}"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _version(digest: str) -> str:
    return (
        "redis.register_function{function_name = 'lukhas_version', flags = {'no-writes'}, "
        "description = 'version: which release of the library this is.', "
        f"callback = function() return '{digest}' end}}\n-- version {digest}"
    )
