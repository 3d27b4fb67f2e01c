-- index_ids: indexes ids that a carrier gave, before the answers that brought them are stored (progress).
--
-- For carriers that rewrite numbers: a receipt's id alone leads to its message, so the index lies in the partition of
-- the hash of (carrier, id). Receipts parked there lie in the same partition, so that none is missed in between.
--
-- ARGV   settings, carrier, then per id: id, message id .. part .. 8 octets of the recipient's key
-- reply  per id: the receipt parked under it, or ''. It stays parked until unpark, as the caller may die before storing
--        it.
-- Idempotent.

local function index_ids(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE, NAME}, {SOME, 25})
  local carrier, hour, names, list = args[2], floor(now / 3600000), {}, {}
  local key, hours = P .. 'j:' .. carrier .. ':' .. hour, P .. 'jh:' .. carrier
  for i = 3, #args do
    list[i - 2] = args[i]
    if i % 2 == 1 then names[#names + 1] = parked_under(carrier, args[i]) end
  end
  spread('HSET', key, list)
  if call('SADD', hours, hour) == 1 then
    call('EXPIRE', key, settings.id_map + 3600)
    for _, old in ipairs(call('SMEMBERS', hours)) do
      if call('EXISTS', P .. 'j:' .. carrier .. ':' .. old) == 0 then call('SREM', hours, old) end
    end
  end
  local parked = spread_read('HMGET', P .. 'jk', names)
  for i = 1, #names do
    if parked[i] then
      call('ZADD', P .. 'ja', now, names[i])
      call('ZREM', P .. 'jo', names[i])
    else
      parked[i] = ''
    end
  end
  return parked
end
