-- The store's clock. A file of its own, since tests load another in its place.

-- Return the time in ms UTC. It is the server's, so that all gateways share it.
local function clock()
  local t = call('TIME')
  return t[1] * 1000 + floor(t[2] / 1000)
end
