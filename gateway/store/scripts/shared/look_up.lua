-- Which messages an id of a carrier belongs to.

local look_up_all
do -- a block of its own: Lua allows 200 locals per block

-- Return the hours that have an id map of this carrier, newest first; read once per call.
local function hours_of(carrier)
  local hours = mapped_hours[carrier]
  if not hours then
    hours = call('SMEMBERS', P .. 'h:' .. carrier)
    for i = 1, #hours do hours[i] = tonumber(hours[i]) end
    table.sort(hours, function(a, b) return a > b end)
    mapped_hours[carrier] = hours
  end
  return hours
end

-- Look up fields of one carrier in this call's answers, then in the hours that have an id map, newest first.
-- found[number] becomes message id and part of each message that was given the id in that hour.
local function look_up(carrier, numbers, fields, found)
  local list, fresh = mapped[carrier], nil
  local hours = hours_of(carrier)
  if list then
    fresh = {}
    for i = 1, #list, 2 do fresh[list[i]] = merge_values(fresh[list[i]] or '', list[i + 1]) end
    if hours[1] ~= this_hour() then table.insert(hours, 1, this_hour()) end
  end
  for h = 1, #hours do
    if #numbers == 0 then return end
    local wanted, missing = {}, {}
    for i = 1, #numbers do wanted[i] = fields[numbers[i]] end
    local values = spread_read('HMGET', P .. 'i:' .. carrier .. ':' .. hours[h], wanted)
    for i = 1, #numbers do
      local value = values[i]
      if fresh and fresh[wanted[i]] then value = merge_values(value or '', fresh[wanted[i]]) end
      if value then found[numbers[i]] = value else missing[#missing + 1] = numbers[i] end
    end
    numbers, fresh = missing, nil
  end
end

-- Do the same for fields of several carriers; names[number] is the carrier.
function look_up_all(names, fields, found)
  local by_carrier = {}
  for number in pairs(fields) do
    if not found[number] then
      local list = group(by_carrier, names[number])
      list[#list + 1] = number
    end
  end
  for carrier, numbers in pairs(by_carrier) do look_up(carrier, numbers, fields, found) end
end

end
