-- hooks_off: nobody is configured to hear events; they are no longer followed, unless messages named receivers of late.
--
-- ARGV  how long ago "of late" is, in ms
-- reply 1 when they are still followed

local function hooks_off(keys, args)
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
