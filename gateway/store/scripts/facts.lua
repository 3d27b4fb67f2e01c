-- facts: replies what policy needs to know of recipients. Read only.
--
-- ARGV   per recipient: its key, then its caps (packed, one after the other; '' = none)
-- reply  per recipient: rules (packed), then {per cap: reservations that count now, instant when there is room (0 =
--        now)}

local function facts(keys, args)
  begin(keys)
  local recipients, reply = {}, {}
  for i = 1, #args, 2 do recipients[#recipients + 1] = args[i] end
  local values = spread_read('HMGET', P .. 'r', recipients)
  for i = 1, #recipients do
    local packed, used = args[i * 2], {}
    for pos = 1, #packed, Size.CAP_SIZE do
      local cap = sub(packed, pos, pos + Size.CAP_SIZE - 1)
      local _, limit, window = read(Format.CAP, cap)
      local kept = reservations(cap_key(recipients[i], cap), window)
      local over = #kept / 24 - limit
      used[#used + 1] = #kept / 24
      used[#used + 1] = over >= 0 and read('>I8', kept, over * 24 + 1) + window * 1000 or 0
    end
    reply[#reply + 1] = values[i] or ''
    reply[#reply + 1] = used
  end
  return reply
end
