-- flag: sets or removes one flag of this partition; the gate obeys from then on.
--
-- ARGV   settings, name, value ('0' removes it)
-- reply  1
-- Idempotent.

local function flag(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE, NAME, NUMBER})
  if args[3] == '0' then call('HDEL', P .. 'f', args[2]) else call('HSET', P .. 'f', args[2], args[3]) end
  return 1
end
