-- find: records as they lie, read only; false where there is none.
--
-- ARGV  ids

local function find_records(keys, args)
  begin(keys)
  load(args)
  local reply = {}
  for i = 1, #args do reply[i] = records[args[i]] and records[args[i]][Size.RAW] end
  return reply
end
