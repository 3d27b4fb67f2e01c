-- reference: the ids that these references were accepted under within 72 h, read only; '' where there is none.
--
-- ARGV  references

local function reference(keys, args)
  begin(keys)
  local known, reply = known_references(args), {}
  for i = 1, #args do reply[i] = known[args[i]] or '' end
  return reply
end
