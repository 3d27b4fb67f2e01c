-- locate: replies which messages receipts belong to, by carrier and id alone; parks those of unknown ids (see
-- index_ids).
--
-- ARGV   settings, carrier, then per receipt: id, what to keep of it (state, then date and error text: layout.DATED)
-- reply  per receipt: what the index has (message id, part, 8 octets of the recipient's key), or '' when it was parked
-- Idempotent: parking again changes nothing; a final receipt is never replaced.

local function locate(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE, NAME}, {SOME, SOME})
  local carrier, ids, reply = args[2], {}, {}
  for i = 3, #args, 2 do ids[#ids + 1] = args[i] end
  local values = indexed(carrier, ids)
  for i = 1, #ids do
    if not values[i] then
      local name, blob = parked_under(carrier, ids[i]), args[2 + 2 * i]
      local there = call('HGET', P .. 'jk', name)
      local old = there and end_of_receipt(there, byte(there), 2)
      if not old or old < Part.DELIVERED or old > Part.UNDELIVERED then call('HSET', P .. 'jk', name, blob) end
      if not call('ZSCORE', P .. 'jo', name) then call('ZADD', P .. 'ja', 'NX', now, name) end
    end
    reply[i] = values[i] or ''
  end
  return reply
end
