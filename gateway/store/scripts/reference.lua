-- reference: replies the ids accepted under references within 72 h. Read only.
--
-- ARGV   references
-- reply  per reference: the id, or ''

local function reference(keys, args)
  begin(keys)
  local known, reply = known_references(args), {}
  for i = 1, #args do reply[i] = known[args[i]] or '' end
  return reply
end
