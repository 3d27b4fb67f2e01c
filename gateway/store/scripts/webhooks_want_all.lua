-- webhooks_want_all: set the accounts that want every move of their messages, not only the last one.
--
-- ARGV  accounts …
-- reply 1
-- Idempotent. From now on each event of these accounts carries its message's summary (see `add_summary`).

local function webhooks_want_all(keys, args)
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
