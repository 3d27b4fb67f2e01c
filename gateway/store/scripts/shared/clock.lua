-- The store's clock. A file of its own, since tests load another in its place.

-- The time in ms UTC: the server's, so that all gateways have the same.
local function clock()
  local t = call('TIME')
  return t[1] * 1000 + floor(t[2] / 1000)
end
