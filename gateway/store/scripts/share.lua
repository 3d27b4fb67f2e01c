-- share: divides what is limited (a rate, a number of binds) among the gateways that use it. What they may use together
-- is never more than the limit.
--
-- ARGV   owner, round, then per resource: its name, Format.ASK: whole (1: only whole numbers make sense), limit, held,
--        wanted, up. Limit 0: the owner does not use it any more.
-- reply  per resource Format.GRANT: share, target, members, before, up of the others
-- Idempotent by the round, which counts up within an incarnation: a call of an older round, or a repeat, changes
-- nothing.
--
-- p:<resource> holds what each member may be using. That is an upper bound, as a member says `held` after it has
-- lowered its use, and reads `share` before it raises it. So shrinking takes two calls: the first replies a share below
-- what is held and changes nothing; the second, made when no more than that is used, sets the rest free. What is free
-- is granted and noted at once. A member counts while it has heartbeats (beat): 9 s after the last one its share is
-- free, and 8 s after it the member itself uses nothing any more. A later incarnation of a node replaces the former one
-- at once. The limit is the lowest that any member names, so a lower one holds as soon as one of them knows it.

local SILENT = 9000

-- Return the living members beside this node, the fields of dead ones, and what this node's last call left.
local function members_of(key, node, beats)
  local all, others, dead, former = call('HGETALL', key), {}, {}, nil
  for i = 1, #all, 2 do
    local one, pos = {node = all[i]}, nil
    one.round, one.limit, one.held, one.want, one.up, pos = read(Format.PORTION, all[i + 1])
    one.start = sub(all[i + 1], pos)
    if one.node == node then
      former = one
    elseif now - tonumber(beats[one.node .. '/' .. one.start] or 0) < SILENT then
      others[#others + 1] = one
    else
      dead[#dead + 1] = one.node
    end
  end
  return others, dead, former
end

local function wanting(members)
  local some = {}
  for i = 1, #members do
    if members[i].want > 0 then some[#some + 1] = members[i] end
  end
  return #some > 0 and some or members
end

-- Set fair targets (max-min): no member gets more than it wants while another lacks; the rest goes in equal parts to
-- all that want anything.
local function fair(members, limit)
  table.sort(members, function(one, other)
    if one.want ~= other.want then return one.want < other.want end
    return one.node < other.node
  end)
  local left, n = limit, #members
  for i = 1, n do
    members[i].target = min(members[i].want, left / (n - i + 1))
    left = left - members[i].target
  end
  local some = wanting(members)
  for i = 1, #some do some[i].target = some[i].target + left / #some end
end

-- Make targets whole numbers. What the fractions add up to is dealt out by a rank that differs per resource, so that
-- many resources of one each are spread over the members.
local function whole_targets(members, limit, name)
  local left, some = limit, wanting(members)
  for i = 1, #members do
    members[i].target = floor(members[i].target + 1e-6)
    left = left - members[i].target
    members[i].rank = redis.sha1hex(name .. '\0' .. members[i].node)
  end
  table.sort(some, function(one, other) return one.rank < other.rank end)
  for i = 1, left do
    local one = some[(i - 1) % #some + 1]
    one.target = one.target + 1
  end
end

local function share_of(name, mine, others, whole)
  local limit, taken, up, before = mine.limit, 0, 0, 0
  local members = {mine}
  for i = 1, #others do
    members[i + 1] = others[i]
    limit, taken, up = min(limit, others[i].limit), taken + others[i].held, up + others[i].up
  end
  fair(members, limit)
  if whole then whole_targets(members, limit, name) end
  for i = 1, #others do
    if others[i].node < mine.node then before = before + others[i].target end
  end
  local share = mine.target
  if share > mine.held then
    share = max(mine.held, min(share, limit - taken))
    mine.held = share
  end
  return pack(Format.GRANT, share, mine.target, #members, floor(before), up)
end

local function share(keys, args)
  begin(keys)
  local owner, round, reply, changed = args[1], tonumber(args[2]), {}, {}
  local node, start = string.match(owner, '^(.*)/(.*)$')
  local all, beats = call('HGETALL', P .. 'b'), {}
  for i = 1, #all, 2 do beats[all[i]] = all[i + 1] end
  for i = 3, #args, 2 do
    local name, mine = args[i], {node = node}
    local key, whole = P .. 'p:' .. name, nil
    whole, mine.limit, mine.held, mine.want, mine.up = read(Format.ASK, args[i + 1])
    local asked, others, dead, former = mine.held, members_of(key, node, beats)
    local again = former and former.start == start
    if again and round <= former.round then
      reply[#reply + 1] = pack(Format.GRANT, asked, asked, #others + 1, 0, 0)
    elseif mine.limit <= 0 then
      dead[#dead + 1] = node
      reply[#reply + 1] = pack(Format.GRANT, 0, 0, #others, 0, 0)
    else
      reply[#reply + 1] = share_of(name, mine, others, whole == 1)
      -- What is granted is noted with its round even when nothing changed: else the same call, arriving late, might
      -- take back what its first reply gave.
      local same = again and mine.held == asked and former.held == asked and former.limit == mine.limit
        and former.want == mine.want and former.up == mine.up
      if not same then
        changed[#changed + 1] =
          {key, node, pack(Format.PORTION, round, mine.limit, mine.held, mine.want, mine.up) .. start}
      end
    end
    if #dead > 0 then changed[#changed + 1] = {key, dead} end
  end
  for i = 1, #changed do
    local key, field, value = unpack_(changed[i])
    if value then call('HSET', key, field, value) else spread('HDEL', key, field) end
  end
  return reply
end
