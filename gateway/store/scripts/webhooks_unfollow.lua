-- webhooks_unfollow: stop following events, unless messages named URLs recently or a queue still holds something.
--
-- ARGV  how long "recently" is, in ms
-- reply 1 when they are still followed
-- Idempotent.

local function webhooks_unfollow(keys, args)
  begin(keys)
  expect(args, {NUMBER})
  local accounts = call('HGETALL', P .. 'ga')
  for i = 1, #accounts, 2 do
    if tonumber(accounts[i + 1]) > now - tonumber(args[1]) then return call('HEXISTS', P .. 'g', 'webhooks') end
  end
  if call('SCARD', P .. 's') > 0 then return call('HEXISTS', P .. 'g', 'webhooks') end
  call('DEL', P .. 'ga', P .. 'gl', P .. 'gv', P .. 'gw')
  call('HDEL', P .. 'g', 'webhooks', 'mark', 'size', 'all')
  return 0
end
