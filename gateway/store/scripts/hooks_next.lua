-- hooks_next: the batch that was posted goes (or is given up: to the dead letters), the next one is frozen.
--
-- ARGV  queue, what became of the batch (0: not known, give it again; 1: taken by the receiver; 2: given up),
--       its first piece, most events of the next batch, when given up: pieces as old as this instant (ms) go with it,
--       most dead events that are kept
-- reply {} when nothing waits; else {events that wait, first piece, events of the batch, instant of its first, pieces …}
-- Idempotent: what became of a batch counts only while it is the frozen one.

local function give_up(queue, state, frozen, cutoff, most)
  local gone, events_ = 0, 0
  while gone < 1000 do
    local head = call('LINDEX', P .. 'sh:' .. queue, 0)
    if not head then break end
    local _, count, at = read('>c8I2I8', head)
    if gone >= frozen and at > cutoff then break end
    call('LMOVE', P .. 'sh:' .. queue, P .. 'dh:' .. queue, 'LEFT', 'RIGHT')
    call('LMOVE', P .. 'sq:' .. queue, P .. 'dq:' .. queue, 'LEFT', 'RIGHT')
    gone, events_ = gone + 1, events_ + count
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

local function hooks_next(keys, args)
  begin(keys)
  expect(args, {NAME, NUMBER, ANY, NUMBER, NUMBER, NUMBER})
  local queue, became, limit = args[1], args[2], tonumber(args[4])
  local state = P .. 's:' .. queue
  local known = call('HMGET', state, 'n', 'h', 'f')
  local n, first, events_ = tonumber(known[1] or 0), known[2], tonumber(known[3] or 0)
  if n > 0 and became ~= '0' and first == args[3] then
    if became == '1' then
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
    let_go(queue, state)
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
  local reply, pieces = {tonumber(call('HGET', state, 'c')), first, events_, at}, call('LRANGE', P .. 'sq:' .. queue, 0, n - 1)
  for i = 1, #pieces do reply[4 + i] = pieces[i] end
  return reply
end
