-- The beginning of a lease, of whatever kind. Invariant: an epoch is given once.

local function take(c, n, tags, deadline)
  local epoch = draw(c)
  n.leases = n.leases + 1
  local digits = whole(epoch)
  for _, tag in ipairs(tags) do
    tag_hold(c, tag, n.id)
  end
  number_save(c, n, epoch, 'e/' .. digits, deadline .. ':' .. table.concat(tags))
  return epoch, digits
end

-- The NumbersLeased's part on one lease.
local function lease_wire(pool, number, epoch, deadline)
  return wire_bytes(2, wire_bytes(1, number) .. wire_int(2, epoch) .. wire_ms(3, deadline)
    .. wire_int(4, POLICY[pool.policy]) .. wire_ms(5, pool.rest)
    .. (pool.tagged and not pool.shared and wire_ms(6, pool.rest + pool.extra) or ''))
end
