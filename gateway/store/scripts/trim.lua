-- trim: deletes entries of the event stream that every consumer has dealt with.
--
-- ARGV   settings, entry id (the last one to delete)
-- reply  how many were deleted
-- Idempotent.

local function trim(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE, NAME})
  local ms, number = string.match(args[2], '^(%d+)-(%d+)$')
  return call('XTRIM', P .. 'e', 'MINID', ms .. '-' .. string.format('%.0f', number + 1))
end
