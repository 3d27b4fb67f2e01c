-- webhooks_dead_letters: list the dead letters of a queue, replay them (to its tail, as new) or drop them.
--
-- ARGV  queue, 'list' | 'replay' | 'drop', chunks to skip, most chunks
-- reply list: number of events, instant, sealed events, …; else {events replayed or dropped, chunks left}
-- Not idempotent: a repeated replay or drop takes the chunks that are first then.

local function webhooks_dead_letters(keys, args)
  begin(keys)
  expect(args, {NAME, NAME, NUMBER, NUMBER})
  local queue, verb, skip, most = args[1], args[2], tonumber(args[3]), tonumber(args[4])
  local heads, bodies, state = P .. 'dh:' .. queue, P .. 'dq:' .. queue, P .. 's:' .. queue
  if verb ~= 'list' and verb ~= 'replay' and verb ~= 'drop' then error('malformed: no such verb') end
  local reply, done = {}, 0
  if verb == 'list' then
    local some, sealed = call('LRANGE', heads, skip, skip + most - 1), call('LRANGE', bodies, skip, skip + most - 1)
    for i = 1, #some do
      local _, count, at = read('>c8I2I8', some[i])
      reply[i * 3 - 2], reply[i * 3 - 1], reply[i * 3] = count, at, sealed[i]
    end
    return reply
  end
  for _ = 1, most do
    local head = call('LPOP', heads)
    if not head then break end
    local name, count = read('>c8I2', head)
    if verb == 'replay' then
      call('RPUSH', P .. 'sh:' .. queue, pack('>c8I2I8', name, count, now))
      call('LMOVE', bodies, P .. 'sq:' .. queue, 'LEFT', 'RIGHT')
      call('HINCRBY', state, 'c', count)
    else
      call('LPOP', bodies)
    end
    call('HINCRBY', state, 'd', -count)
    done = done + count
  end
  if verb == 'replay' and done > 0 then call('INCR', P .. 'gv') end
  delete_if_empty(queue, state)
  return {done, call('LLEN', heads)}
end
