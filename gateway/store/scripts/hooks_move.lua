-- hooks_move: what was read goes into the queues of its receivers, and counts as read. Both or neither.
--
-- ARGV  owner, last entry moved (as read), last entry of this move, entries to keep in the stream,
--       then per queue: queue, its sealed address, name of the piece (8 octets), number of events, the sealed events
-- reply {0} when the lease or the place was lost: nothing was done. Else {1, then per queue: 1 when nothing else waits
--        there, so that this piece is the batch to be posted, and how many events wait}

-- The stream is trimmed up to where the move was when it was `keep` entries shorter: never beyond what was moved.
local function trim_behind(keep, last)
  local known = call('HMGET', P .. 'g', 'mark', 'size')
  if call('XLEN', P .. 'e') - tonumber(known[2] or 0) < keep then return end
  if known[1] then call('XTRIM', P .. 'e', 'MINID', '~', known[1]) end
  call('HSET', P .. 'g', 'mark', last, 'size', call('XLEN', P .. 'e'))
end

local function hooks_move(keys, args)
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
    reply[n + 1] = length == 1 and 1 or 0 -- what was replayed may wait here without being a batch yet
    if length == 1 then call('HSET', state, 'n', 1, 'h', args[i + 2], 'f', count) end
    reply[n + 2] = call('HINCRBY', state, 'c', count)
  end
  call('HSET', P .. 'g', 'webhooks', args[3])
  trim_behind(tonumber(args[4]), args[3])
  return reply
end
