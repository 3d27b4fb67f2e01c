-- trim: every consumer has dealt with the stream's entries up to and with this one; they go. Idempotent.
--
-- ARGV  settings, entry id
-- reply how many went

local function trim(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE, NAME})
  local ms, number = string.match(args[2], '^(%d+)-(%d+)$')
  return call('XTRIM', P .. 'e', 'MINID', ms .. '-' .. string.format('%.0f', number + 1))
end
