-- relocate: looks parked receipts up once more after a minute, in case the gateway that was to store them has died.
--
-- ARGV   settings
-- reply  {orphans, dropped because there were too many, found: {carrier, id, what was kept, what the index has, …}}
-- Idempotent: what was found stays parked until unpark, and is found again after a minute. The rest are orphans, kept
-- until their time is over.

local RELOCATED = 100
local DROPPED = 1000 -- per call, one a second

local function relocate(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE})
  local aged = call('ZRANGE', P .. 'ja', '-inf', now - settings.orphan, 'BYSCORE', 'LIMIT', 0, RELOCATED)
  local reply = {0, 0, {}}
  for i = 1, #aged do
    local blob, carrier = call('HGET', P .. 'jk', aged[i]), carrier_in(aged[i])
    local id = sub(aged[i], #carrier + 2)
    local value = blob and indexed(carrier, {id})[1]
    if value then
      call('ZADD', P .. 'ja', now, aged[i])
      for _, word in ipairs({carrier, id, blob, value}) do table.insert(reply[3], word) end
    else
      call('ZREM', P .. 'ja', aged[i])
      if blob then
        call('ZADD', P .. 'jo', now + settings.parked - settings.orphan, aged[i])
        reply[1] = reply[1] + 1
      end
    end
  end
  local expired = call('ZRANGE', P .. 'jo', '-inf', now, 'BYSCORE', 'LIMIT', 0, RELOCATED)
  local before = #expired
  too_many('jk', 'jo', 'ja', expired, DROPPED)
  reply[2] = #expired - before
  if #expired > 0 then
    spread('HDEL', P .. 'jk', expired)
    spread('ZREM', P .. 'jo', expired)
    spread('ZREM', P .. 'ja', expired)
  end
  return reply
end
