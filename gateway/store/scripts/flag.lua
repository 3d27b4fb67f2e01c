-- flag: sets or takes away one flag in this partition; the gate obeys from then on. Idempotent.
--
-- ARGV  settings, name, value ('0' takes it away)

local function flag(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE, NAME, NUMBER})
  if args[3] == '0' then call('HDEL', P .. 'f', args[2]) else call('HSET', P .. 'f', args[2], args[3]) end
  return 1
end
