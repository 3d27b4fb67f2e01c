-- webhooks_move: put the events that were read into their queues and advance the position. Both or neither.
--
-- ARGV  owner, last entry moved (as read), last entry of this move, entries to keep in the stream,
--       then per chunk: queue, its sealed address, name of the chunk (8 octets), number of events, the sealed events
-- reply {0} when the lease is lost or the position has changed: nothing was done. Else {1, then per chunk: 1 when the
--       queue was empty, so that this chunk is the batch to post now, and how many events wait in the queue}
-- Idempotent: a move changes the position, so a repeat does nothing.

-- Trim the stream up to where the position was when the stream was `keep` entries shorter: never beyond what was moved.
local function trim_behind(keep, last)
  local known = call('HMGET', P .. 'g', 'mark', 'size')
  if call('XLEN', P .. 'e') - tonumber(known[2] or 0) < keep then return end
  if known[1] then call('XTRIM', P .. 'e', 'MINID', '~', known[1]) end
  call('HSET', P .. 'g', 'mark', last, 'size', call('XLEN', P .. 'e'))
end

local function webhooks_move(keys, args)
  begin(keys)
  expect(args, {NAME, NAME, NAME, NUMBER}, {NAME, SOME, 8, NUMBER, SOME})
  if call('GET', P .. 'gl') ~= args[1] or call('HGET', P .. 'g', 'webhooks') ~= args[2] then return {0} end
  local reply = {1}
  for i = 5, #args, 5 do
    local queue, count = args[i], tonumber(args[i + 3])
    local state = P .. 's:' .. queue
    if call('HSETNX', state, 'm', args[i + 1]) == 1 then call('SADD', P .. 's', queue) end
    local length = call('RPUSH', P .. 'sh:' .. queue, pack('>c8I2I8', args[i + 2], count, now))
    call('RPUSH', P .. 'sq:' .. queue, args[i + 4])
    local n = #reply
    reply[n + 1] = length == 1 and 1 or 0 -- replayed chunks may wait here without being a batch yet
    if length == 1 then call('HSET', state, 'n', 1, 'h', args[i + 2], 'f', count) end
    reply[n + 2] = call('HINCRBY', state, 'c', count)
  end
  call('HSET', P .. 'g', 'webhooks', args[3])
  trim_behind(tonumber(args[4]), args[3])
  return reply
end
