-- The index by carrier and id alone, for carriers that rewrite numbers (index_ids, locate, unpark, relocate).

-- Return what the index has for these ids of a carrier: values[i] or nil; the newest hour wins.
local function indexed(carrier, ids)
  local hours, numbers, values = call('SMEMBERS', P .. 'jh:' .. carrier), {}, {}
  table.sort(hours, function(a, b) return tonumber(a) > tonumber(b) end)
  for i = 1, #ids do numbers[i] = i end
  for h = 1, #hours do
    if #numbers == 0 then break end
    local wanted, missing = {}, {}
    for i = 1, #numbers do wanted[i] = ids[numbers[i]] end
    local found = spread_read('HMGET', P .. 'j:' .. carrier .. ':' .. hours[h], wanted)
    for i = 1, #numbers do
      if found[i] then values[numbers[i]] = found[i] else missing[#missing + 1] = numbers[i] end
    end
    numbers = missing
  end
  return values
end
