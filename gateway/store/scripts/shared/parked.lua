-- Receipts whose id is not known, or not yet.
--
-- One lies in `k` under carrier + NUL + field, once for every form of its id, and is listed in `kr` under carrier + NUL
-- + 8 octets of the recipient's key. It waits for its id. When none comes it may still prove that something was sent
-- whose answer was lost (`prove`), or match by another form of its id (sweep).

local function parked_under(carrier, field)
  return carrier .. '\0' .. field
end

local function carrier_in(name)
  return sub(name, 1, find(name, '\0', 1, true) - 1)
end

-- Unpack the end of a receipt: state, error text, the carrier's date or nil, whether it speaks for all parts.
local function end_of_receipt(blob, state, pos)
  local whole_, done = false, nil
  if state >= Size.DATED then
    state, done = state - Size.DATED, read('>I4', blob, pos)
    pos = pos + 4
  end
  if state >= Size.WHOLE then state, whole_ = state - Size.WHOLE, true end
  return state, sub(blob, pos), done, whole_
end

-- Unpack a receipt that begins at `pos` into a table. fields: of the id map, the likeliest first; guesses: other forms
-- of its id, {kind, id} each. Details of an `early` one do not count once it is parked.
local function read_receipt(blob, pos)
  local t = {fields = {}, guesses = {}, sure = false, host = '', excerpt = ''}
  local carrier, state, count, from = read(Format.RECEIPT, blob, pos or 1)
  local detailed = count >= Size.DETAILED
  if detailed then count = count - Size.DETAILED end
  for i = 1, count do t.fields[i], from = read('>Bc0', blob, from) end
  if detailed then
    local sure, host_len, excerpt_len, guesses, at = read(Format.DETAIL, blob, from)
    local excerpt_at = at + host_len
    t.early, t.sure, t.host = sure == Size.EARLY, sure == 1, sub(blob, at, excerpt_at - 1)
    from = excerpt_at + excerpt_len
    t.excerpt = t.early and '' or sub(blob, excerpt_at, from - 1)
    for i = 1, guesses do
      local kind, id
      kind, id, from = read('>BBc0', blob, from)
      t.guesses[i] = {kind, id}
    end
  end
  t.carrier, t.detailed, t.body = carrier, detailed and not t.early, sub(blob, pos or 1)
  t.state, t.err, t.done, t.whole = end_of_receipt(blob, state, from)
  return t
end

-- Unpack a parked receipt. at: when it came (ms); tries: how often sweep has looked at it.
local function read_parked(blob)
  if byte(blob) < 255 then -- the first format
    local t = read_receipt(blob)
    t.at, t.tries = now, 0
    return t
  end
  local _, second, tries = read(Format.PARKED, blob)
  local t = read_receipt(blob, Size.PARKED_SIZE + 1)
  t.at, t.tries = second * 1000, tries
  return t
end

local function pack_parked(t)
  return pack(Format.PARKED, 255, floor(t.at / 1000), min(t.tries, 65535)) .. t.body
end

-- Append the names of receipts beyond the bound to `out`: oldest orphans first, at most `room` in a call. Return
-- whether there are still too many.
local function too_many(parked, orphans, waiting_, out, room)
  local over = call('HLEN', P .. parked) - Size.PARKED_MOST
  for _, key in ipairs({orphans, waiting_}) do
    local most = min(over, room)
    if most > 0 then
      local names = call('ZRANGE', P .. key, 0, most - 1)
      for i = 1, #names do out[#out + 1] = names[i] end
      over, room = over - #names, room - #names
    end
  end
  return over > 0 and room == 0
end

-- Append every name that a receipt is parked under to `names`.
local function names_of(carrier, fields, names)
  for k = 1, #fields do names[#names + 1] = parked_under(carrier, fields[k]) end
end

local drop_parked, park
do -- a block of its own: Lua allows 200 locals per block

local LISTED_MOST = 64 * 20 -- octets of ids per carrier and recipient; beyond them the older half is dropped

local function listed_under(name, carrier)
  return sub(name, 1, #carrier + 9), sub(name, #carrier + 10)
end

local function unlist(name)
  local under, id = listed_under(name, carrier_in(name))
  local all = call('HGET', P .. 'kr', under)
  local at = all and find(all, char(#id) .. id, 1, true)
  if not at then return end
  all = sub(all, 1, at - 1) .. sub(all, at + #id + 1)
  if all == '' then call('HDEL', P .. 'kr', under) else call('HSET', P .. 'kr', under, all) end
end

-- Delete what is parked under these names.
function drop_parked(names)
  if #names == 0 then return end
  for i = 1, #names do unlist(names[i]) end
  spread('HDEL', P .. 'k', names)
  spread('ZREM', P .. 'ka', names)
  spread('ZREM', P .. 'ko', names)
end

-- Drop the older half of the receipts listed for a carrier and recipient, so that a flood drives out only itself. `kd`
-- counts them for sweep. Return what is listed then.
local function drop_older(carrier, under, all)
  local names, pos = {}, 1
  while pos <= #all / 2 do
    local id
    id, pos = read('>Bc0', all, pos)
    local blob = call('HGET', P .. 'k', under .. id)
    if blob then names_of(carrier, read_parked(blob).fields, names) end
    call('INCR', P .. 'kd')
  end
  call('HSET', P .. 'kr', under, sub(all, pos))
  drop_parked(names)
  return call('HGET', P .. 'kr', under) or ''
end

-- Park a receipt until its id comes. A final one is replaced only by itself with more details.
function park(carrier, t)
  t.at, t.tries = now, 0
  local blob, first = nil, parked_under(carrier, t.fields[1])
  for i = 1, #t.fields do
    local name = parked_under(carrier, t.fields[i])
    local there = call('HGET', P .. 'k', name)
    local old = there and read_parked(there)
    if not old or old.state < Part.DELIVERED or old.state > Part.UNDELIVERED or (t.detailed and not old.detailed) then
      if old then t.at = min(t.at, old.at) end
      blob = blob or pack_parked(t)
      call('HSET', P .. 'k', name, blob)
    end
  end
  if not call('ZSCORE', P .. 'ko', first) then call('ZADD', P .. 'ka', 'NX', now, first) end
  local under, id = listed_under(first, carrier)
  local all = call('HGET', P .. 'kr', under) or ''
  if find(all, char(#id) .. id, 1, true) then return end
  if #all >= LISTED_MOST then all = drop_older(carrier, under, all) end
  call('HSET', P .. 'kr', under, all .. char(#id) .. id)
end

end

-- Apply parked receipts whose ids this call's answers have brought. An id brought for several messages at once may mean
-- any of them.
local function apply_arrived()
  local list = arrived
  if not list or #list == 0 then return end
  arrived = {}
  local names, whose, done = {}, {}, {}
  for i = 1, #list, 3 do
    local mine, at = whose[list[i]], nil
    if not mine then
      mine, names[#names + 1] = {}, list[i]
      whose[list[i]] = mine
    end
    for k = 1, #mine, 2 do
      if mine[k] == list[i + 1] then at = k end
    end
    at = at or #mine + 1
    mine[at], mine[at + 1] = list[i + 1], list[i + 2]
  end
  local values = spread_read('HMGET', P .. 'k', names)
  for i = 1, #names do
    if values[i] then
      local carrier, t, open_ = carrier_in(names[i]), read_parked(values[i]), {}
      local mine = whose[names[i]]
      for k = 1, #mine, 2 do
        local r = mine[k]
        if r.final == 0 then open_[#open_ + 1] = k end
      end
      for _, k in ipairs(open_) do
        if #open_ > 1 then
          remark(mine[k], Reason.AMBIGUOUS_RECEIPT, carrier, '')
        else
          receive(mine[k], mine[k + 1], carrier, sub(names[i], #carrier + 10), t.state, t.err, t.done, t.whole)
        end
      end
      names_of(carrier, t.fields, done)
    end
  end
  drop_parked(done)
end
