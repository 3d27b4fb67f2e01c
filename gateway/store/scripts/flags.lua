-- flags: replies the flags of this partition. Read only.
--
-- ARGV   none
-- reply  name, value, …

local function get_flags(keys)
  begin(keys)
  return call('HGETALL', P .. 'f')
end
