-- flags: name, value, … of this partition, read only.

local function get_flags(keys)
  begin(keys)
  return call('HGETALL', P .. 'f')
end
