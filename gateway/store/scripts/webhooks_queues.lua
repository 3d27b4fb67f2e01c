-- webhooks_queues: every queue of this partition, read only.
--
-- ARGV  none
-- reply {accounts whose messages named URLs, then per queue: queue, sealed address, events that wait,
--        instant of the first (0: none), dead events, dead events dropped for lack of room}

local function webhooks_queues(keys)
  begin(keys)
  local reply, queues = {call('HKEYS', P .. 'ga')}, call('SMEMBERS', P .. 's')
  for i = 1, #queues do
    local known = call('HMGET', P .. 's:' .. queues[i], 'm', 'c', 'd', 'o')
    local head, at = call('LINDEX', P .. 'sh:' .. queues[i], 0), 0
    if head then at = read('>I8', head, 11) end
    local n = #reply
    reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4] = queues[i], known[1], tonumber(known[2] or 0), at
    reply[n + 5], reply[n + 6] = tonumber(known[3] or 0), tonumber(known[4] or 0)
  end
  return reply
end
