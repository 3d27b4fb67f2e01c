-- mentions: the ids that were accepted under a client_ref within 72 h, whoever the recipients, read only.
--
-- ARGV  mention (8 octets: account and client_ref)
-- reply ids, oldest day first; the first MENTIONS_KEPT of each day

local function mentions(keys, args)
  begin(keys)
  local reply, today = {}, floor(now / 86400000)
  for day = today - 3, today do
    local ids = call('HGET', P .. 'g:' .. day, args[1]) or ''
    for from = 1, #ids, 16 do
      if read('>I6', ids, from) > now - REFERENCE_KEPT then reply[#reply + 1] = sub(ids, from, from + 15) end
    end
  end
  return reply
end
