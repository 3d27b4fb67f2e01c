-- opt: writes consents and opt-outs, ordered by when they were given; at the same instant the stricter one wins.
--
-- ARGV   settings, then per change: recipient (16 octets), rule (packed), sealed detail
-- reply  per change 1 or 0; 0: a later one, or this very one, is stored already
-- Idempotent by that order.

local function opt(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE}, {16, Size.RULE_SIZE, ANY})
  local reply, all, changed, details = {}, {}, {}, {}
  for i = 2, #args, 3 do
    local recipient, rule = args[i], args[i + 1]
    local _, status, _, at = read(Format.RULE, rule)
    local name, known, place = sub(rule, 1, 1) .. sub(rule, 3, 10), all[recipient], nil
    known = known or call('HGET', P .. 'r', recipient) or ''
    local good = 1
    for pos = 1, #known, Size.RULE_SIZE do
      if sub(known, pos, pos) .. sub(known, pos + 2, pos + 9) == name then
        place = pos
        local _, old, _, old_at = read(Format.RULE, known, pos)
        if old_at > at or (old_at == at and old >= status) then good = 0 end
      end
    end
    if good == 1 then
      if place then
        known = sub(known, 1, place - 1) .. rule .. sub(known, place + Size.RULE_SIZE)
      else
        known = known .. rule
      end
      changed[recipient] = true
      details[#details + 1] = recipient .. name
      details[#details + 1] = args[i + 2]
    end
    all[recipient] = known
    reply[#reply + 1] = good
  end
  for recipient in pairs(changed) do call('HSET', P .. 'r', recipient, all[recipient]) end
  if #details > 0 then spread('HSET', P .. 'o', details) end
  return reply
end
