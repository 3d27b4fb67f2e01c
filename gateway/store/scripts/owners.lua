-- owners: replies the owners of this partition. Read only.
--
-- ARGV   none
-- reply  owner, last heartbeat, open leases, …

local function owners(keys)
  begin(keys)
  local all, reply = call('HGETALL', P .. 'b'), {}
  for i = 1, #all, 2 do
    reply[#reply + 1] = all[i]
    reply[#reply + 1] = tonumber(all[i + 1])
    reply[#reply + 1] = call('HLEN', P .. 'x:' .. all[i]) / 2
  end
  return reply
end
