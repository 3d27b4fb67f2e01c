-- events: replies entries of the event stream. Read only.
--
-- ARGV   entry id to start behind, most entries
-- reply  per entry: its id, its events (packed, one after the other), their instant

local function get_events(keys, args)
  begin(keys)
  local entries, reply = call('XRANGE', P .. 'e', '(' .. args[1], '+', 'COUNT', args[2]), {}
  for i = 1, #entries do
    reply[#reply + 1] = entries[i][1]
    reply[#reply + 1] = entries[i][2][2]
    reply[#reply + 1] = entries[i][2][4]
  end
  return reply
end
