-- depths: replies what waits in this partition. Read only.
--
-- ARGV   none
-- reply  {held, open leases, parked receipts, {state and account, how many wait, …},
--         then per lane {lane, delayed, {account, ready, …}}}

local function depths(keys)
  begin(keys)
  local leases, all = 0, call('HKEYS', P .. 'b')
  for i = 1, #all do leases = leases + call('HLEN', P .. 'x:' .. all[i]) / 2 end
  local reply = {call('ZCARD', P .. 'held'), leases, call('ZCARD', P .. 'ka'), call('HGETALL', P .. 'a')}
  local lanes = call('SMEMBERS', P .. 'lanes')
  for i = 1, #lanes do
    local lane, ready = lanes[i], {}
    local accounts = call('ZRANGE', P .. 'l:' .. lane, 0, -1)
    for k = 1, #accounts do
      ready[#ready + 1] = accounts[k]
      ready[#ready + 1] = call('LLEN', queue_key(lane, accounts[k]))
    end
    reply[#reply + 1] = {lane, call('ZCARD', P .. 'y:' .. lane), ready}
  end
  return reply
end
