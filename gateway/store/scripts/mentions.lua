-- mentions: replies the ids accepted under a client_ref within 72 h, for any recipient. Read only.
--
-- ARGV   mention (8 octets that name account and client_ref)
-- reply  ids, oldest day first; the first 64 of each day in this partition

local function mentions(keys, args)
  begin(keys)
  local reply = {}
  for day = today() - 3, today() + 1 do
    local list = call('HGET', P .. 'd:' .. day, args[1]) or ''
    for from = 9, #list, 24 do
      local id = sub(list, from, from + 15)
      if fresh_enough(id) then reply[#reply + 1] = id end
    end
  end
  return reply
end
