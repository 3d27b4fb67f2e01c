-- opts: replies a recipient's rules with their sealed details. Read only.
--
-- ARGV   recipient
-- reply  {rules (packed, one after the other), detail per rule, …}

local function opts(keys, args)
  begin(keys)
  local known, reply = call('HGET', P .. 'r', args[1]) or '', {}
  reply[1] = known
  for pos = 1, #known, Size.RULE_SIZE do
    local name = sub(known, pos, pos) .. sub(known, pos + 2, pos + 9)
    reply[#reply + 1] = call('HGET', P .. 'o', args[1] .. name) or ''
  end
  return reply
end
