-- cancel_account: ends what waits of one account in one place, a bounded number per call.
--
-- ARGV   settings, account, place (r: ready, d: delayed, each followed by its lane; h: held), where to start
-- reply  {canceled, where to continue (-1 = done)}
-- Idempotent: what was canceled waits no more. What arrived behind the start meanwhile is left to the next round.

local BATCH = 500

local function waiting_at(place, lane, account, from)
  if place == 'r' then return call('LRANGE', queue_key(lane, account), 0, BATCH - 1) end
  return call('ZRANGE', place == 'd' and P .. 'y:' .. lane or P .. 'held', from, from + BATCH - 1)
end

-- Drop the first entries of a ready list: these messages are canceled, or left before.
local function shorten(lane, account, count)
  local key = queue_key(lane, account)
  call('LTRIM', key, count, -1)
  if call('EXISTS', key) == 0 then call('ZREM', P .. 'l:' .. lane, account) end
end

local function cancel_account(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE, NAME, NAME, NUMBER})
  local account, place, lane, from = args[2], sub(args[3], 1, 1), sub(args[3], 2), tonumber(args[4])
  local ids = waiting_at(place, lane, account, from)
  load(ids)
  local canceled = 0
  for i = 1, #ids do
    local r = records[ids[i]]
    if r and r.state <= State.QUEUED and account_of(r) == account then
      cancel_one(r)
      canceled = canceled + 1
    end
  end
  commit()
  if place == 'r' and #ids > 0 then shorten(lane, account, #ids) end
  if #ids < BATCH then return {canceled, -1} end
  return {canceled, place == 'r' and 0 or from + BATCH - canceled}
end
