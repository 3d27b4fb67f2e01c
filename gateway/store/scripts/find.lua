-- find: replies records as they are stored. Read only.
--
-- ARGV   ids
-- reply  per id: its record, or false

local function find_records(keys, args)
  begin(keys)
  load(args)
  local reply = {}
  for i = 1, #args do reply[i] = records[args[i]] and records[args[i]][Size.RAW] end
  return reply
end
