-- unpark: removes parked receipts that were found by their id alone and are stored with their messages.
--
-- ARGV   settings, then per receipt: carrier, id
-- reply  how many names were removed
-- Idempotent.

local function unpark(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE}, {NAME, SOME})
  local names = {}
  for i = 2, #args, 2 do names[#names + 1] = parked_under(args[i], args[i + 1]) end
  if #names == 0 then return 0 end
  spread('HDEL', P .. 'jk', names)
  spread('ZREM', P .. 'ja', names)
  spread('ZREM', P .. 'jo', names)
  return #names
end
