-- release: has held messages decided again: they become due, but stay HELD until take hands them back.
--
-- ARGV   settings, scope ('' = the ids that follow; one octet = all held for that Reason), then ids; with a scope:
--        where to start in the list of held messages
-- reply  {released, where to continue (-1 = done)}
-- Idempotent: what was released is not in that list any more.

local BATCH = 500

local function has_scope(r, scope)
  if #scope == 1 then return r.reason == byte(scope) end
  local from = permission_at(r) + Size.SCOPES_AT
  return sub(r.raw, from + 1, from + 8) == scope or sub(r.raw, from + 9, from + 16) == scope
    or sub(r.raw, from + 17, from + 24) == scope
end

local function release(keys, args)
  begin(keys, args[1])
  if args[2] == '' then expect(args, {Size.SETTINGS_SIZE, 0}, {16}) else expect(args, {Size.SETTINGS_SIZE, #args[2] == 1 and 1 or 8, NUMBER}) end
  local scope, ids, from, on = args[2], {}, tonumber(args[3] or 0), -1
  if scope ~= '' then
    ids = call('ZRANGE', P .. 'held', from, from + BATCH - 1)
    if #ids == BATCH then on = from + BATCH end
  else
    for i = 3, #args do ids[i - 2] = args[i] end
  end
  load(ids)
  local released = 0
  for i = 1, #ids do
    local r = records[ids[i]]
    if r and r.state == State.HELD and r.due == 0 and (scope == '' or has_scope(r, scope)) then
      unheld[#unheld + 1] = r.id
      delay(r, now)
      touch(r)
      released = released + 1
    end
  end
  commit()
  return {released, on > 0 and on - released or on}
end
