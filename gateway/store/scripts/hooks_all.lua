-- hooks_all: these accounts, and no others, want to hear of every move of their messages, not only of ends.
--
-- ARGV  accounts …
-- Idempotent. From now on each event of theirs brings with it what is told of its message (see `tell`).

local function hooks_all(keys, args)
  begin(keys)
  expect(args, {}, {NAME})
  call('DEL', P .. 'gw')
  if #args == 0 then
    call('HDEL', P .. 'g', 'all')
  else
    spread('SADD', P .. 'gw', args)
    call('HSET', P .. 'g', 'all', 1)
  end
  return 1
end
