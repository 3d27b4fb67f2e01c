-- Lanes. What is to be pushed is gathered in `pushes`, `delays` and `undelays`, and written by commit.
--
-- A message that is pinned to a carrier waits in the lane <route>@<carrier>:<priority>, which only that carrier serves.

local pushes, delays, undelays

local TOKEN_LIFE = 5000 -- ms that a message handed back is reserved for its decider

local function lane_of(r)
  if r.pinned == 1 then return route_of(r) .. '@' .. carrier_of(r) .. ':' .. r.priority end
  return route_of(r) .. '#' .. r.place .. ':' .. r.priority
end

local function queue_key(lane, account)
  return P .. 'q:' .. lane .. '/' .. account
end

local function queue_of(r)
  local accounts, account = group(pushes, lane_of(r)), account_of(r)
  local queue = accounts[account]
  if not queue then
    queue = {head = {}, tail = {}, refund = 0}
    accounts[account] = queue
  end
  return queue
end

local function push_tail(r)
  local tail = queue_of(r).tail
  tail[#tail + 1] = r.id
end

-- Push to the head; the account gets back what taking the message cost it.
local function push_head(r)
  local queue = queue_of(r)
  queue.head[#queue.head + 1] = r.id
  queue.refund = queue.refund + open_parts(r) / r.weight
end

local function delay(r, due)
  r.due = due
  local list = group(delays, lane_of(r))
  list[#list + 1] = due
  list[#list + 1] = r.id
end

local function undelay(r)
  if r.due > 0 then
    local list = group(undelays, lane_of(r))
    list[#list + 1] = r.id
  end
end

-- Enter an account in the lane's fair order; a returning account's tag is not older than the lane's clock. Return
-- whether the lane is listed already: it is while it has accounts or a clock.
local function activate(lane, account, refund)
  local key = P .. 'l:' .. lane
  local tag = call('ZSCORE', key, account)
  if tag then
    if refund > 0 then call('ZADD', key, tag - refund, account) end
    return true
  end
  local known = call('HMGET', P .. 't:' .. lane, '', account)
  local clock_, last = tonumber(known[1] or 0), tonumber(known[2] or 0)
  call('ZADD', key, refund > 0 and last - refund or max(clock_, last), account)
  return known[1] ~= false
end

local function write_lanes()
  for lane, list in pairs(undelays) do spread('ZREM', P .. 'y:' .. lane, list) end
  for lane, list in pairs(delays) do
    spread('ZADD', P .. 'y:' .. lane, list)
    call('SADD', P .. 'lanes', lane)
  end
  for lane, accounts in pairs(pushes) do
    local listed = true
    for account, queue in pairs(accounts) do
      local key, head = queue_key(lane, account), queue.head
      if #head > 0 then
        local turned = {}
        for i = #head, 1, -1 do turned[#turned + 1] = head[i] end
        spread('LPUSH', key, turned)
      end
      if #queue.tail > 0 then spread('RPUSH', key, queue.tail) end
      listed = activate(lane, account, queue.refund) and listed
    end
    if not listed then call('SADD', P .. 'lanes', lane) end
  end
  pushes, delays, undelays = {}, {}, {}
end
