-- webhooks_next_batch: remove the batch that was posted (given up: to the dead letters) and freeze the next one.
--
-- ARGV  queue, outcome of the batch (0: not known, return it again; 1: taken by the endpoint; 2: given up),
--       its first chunk, most events of the next batch, when given up: chunks as old as this instant (ms) go with it,
--       most dead events to keep
-- reply {} when nothing waits; else {events that wait, first chunk, events of the batch, instant of its first, chunks …}
-- Idempotent: an outcome counts only while its batch is the frozen one.

local function give_up(queue, state, frozen, cutoff, most)
  local moved, events_ = 0, 0
  while moved < 1000 do
    local head = call('LINDEX', P .. 'sh:' .. queue, 0)
    if not head then break end
    local _, count, at = read('>c8I2I8', head)
    if moved >= frozen and at > cutoff then break end
    call('LMOVE', P .. 'sh:' .. queue, P .. 'dh:' .. queue, 'LEFT', 'RIGHT')
    call('LMOVE', P .. 'sq:' .. queue, P .. 'dq:' .. queue, 'LEFT', 'RIGHT')
    moved, events_ = moved + 1, events_ + count
  end
  call('HINCRBY', state, 'c', -events_)
  local dead = call('HINCRBY', state, 'd', events_)
  while dead > most do
    local _, count = read('>c8I2I8', call('LPOP', P .. 'dh:' .. queue))
    call('LPOP', P .. 'dq:' .. queue)
    call('HINCRBY', state, 'o', count)
    dead = call('HINCRBY', state, 'd', -count)
  end
end

local function webhooks_next_batch(keys, args)
  begin(keys)
  expect(args, {NAME, NUMBER, ANY, NUMBER, NUMBER, NUMBER})
  local queue, outcome, limit = args[1], args[2], tonumber(args[4])
  local state = P .. 's:' .. queue
  local known = call('HMGET', state, 'n', 'h', 'f')
  local n, first, events_ = tonumber(known[1] or 0), known[2], tonumber(known[3] or 0)
  if n > 0 and outcome ~= '0' and first == args[3] then
    if outcome == '1' then
      call('LTRIM', P .. 'sh:' .. queue, n, -1)
      call('LTRIM', P .. 'sq:' .. queue, n, -1)
      call('HINCRBY', state, 'c', -events_)
    else
      give_up(queue, state, n, tonumber(args[5]), tonumber(args[6]))
    end
    call('HDEL', state, 'n', 'h', 'f')
    n = 0
  end
  local heads = call('LRANGE', P .. 'sh:' .. queue, 0, n > 0 and n - 1 or 499)
  if #heads == 0 then
    delete_if_empty(queue, state)
    return {}
  end
  if n == 0 then
    events_ = 0
    for i = 1, #heads do
      local name, count = read('>c8I2I8', heads[i])
      if n > 0 and events_ + count > limit then break end
      first, n, events_ = first and n > 0 and first or name, n + 1, events_ + count
    end
    call('HSET', state, 'n', n, 'h', first, 'f', events_)
  end
  local _, _, at = read('>c8I2I8', heads[1])
  local reply, chunks = {tonumber(call('HGET', state, 'c')), first, events_, at}, call('LRANGE', P .. 'sq:' .. queue, 0, n - 1)
  for i = 1, #chunks do reply[4 + i] = chunks[i] end
  return reply
end
