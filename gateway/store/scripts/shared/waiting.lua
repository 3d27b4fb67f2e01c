-- How many messages of an account wait, by state: field of `a` = state (1 octet) + account.
--
-- A record remembers the state under which it is counted. So a record of an older version, which counted nothing, is
-- counted from its next move on, and one that an older version has moved meanwhile is put right.

local waiting

local function tally(account, state, n)
  local field = char(state) .. account
  waiting[field] = (waiting[field] or 0) + n
end

-- Count a record under its new state. Call it whenever its state may have changed.
local function recount(r)
  local listed, state = r.listed, r.state
  if state > State.QUEUED and listed < 2 then return end -- most often: it did not wait and does not
  local was, is = floor(listed / 2), state <= State.QUEUED and state or 0
  if was == is then return end
  local account = account_of(r)
  if was > 0 then tally(account, was, -1) end
  if is > 0 then tally(account, is, 1) end
  r.listed = listed % 2 + 2 * is
end

local function write_waiting()
  for field, n in pairs(waiting) do
    if n ~= 0 then call('HINCRBY', P .. 'a', field, n) end
  end
end
