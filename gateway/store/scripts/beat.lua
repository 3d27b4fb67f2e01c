-- beat: stores a heartbeat of an owner.
--
-- ARGV   settings, owner
-- reply  the instant stored
-- Idempotent.

local function beat(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE, NAME})
  call('HSET', P .. 'b', args[2], now)
  return now
end
