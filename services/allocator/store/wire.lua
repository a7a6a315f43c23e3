-- Writes protobuf. The events of allocator name what only the function itself decides (which number,
-- which epoch, which deadline), so their bytes are put together here; Python hands over the parts it
-- knows, ready made. Invariant: what is written parses as the messages of axbridge/allocator/v1 and
-- axbridge/runtime/v1 (tests/contract/test_allocator_store.py parses every entry).

local function varint(n)
  if n < 128 then
    return string.char(n)
  end
  local octets = {}
  while n >= 128 do
    octets[#octets + 1] = string.char(n % 128 + 128)
    n = math.floor(n / 128)
  end
  octets[#octets + 1] = string.char(n)
  return table.concat(octets)
end

local function wire_int(field, n)
  if n == 0 then
    return ''
  end
  return string.char(field * 8) .. varint(n)
end

local function wire_bytes(field, bytes)
  return string.char(field * 8 + 2) .. varint(#bytes) .. bytes
end

-- Timestamp and Duration look alike: seconds and nanoseconds.
local function wire_ms(field, ms)
  return wire_bytes(field, wire_int(1, math.floor(ms / 1000)) .. wire_int(2, ms % 1000 * 1000000))
end

local MESSAGE = 'axbridge.allocator.v1.'
local POLICY = {exclusive = 1, shared = 2}
local STATE = {free = 1, leased = 2, bound = 3, cooling = 4, locked = 5,
  reserved = 6, suspended = 7, retired = 8}

-- One OutboxRecord. `value` nil makes a tombstone, `id` nil a compacted record.
local function wire_record(topic, partition, key, value, message, id, now, version)
  return wire_bytes(1, wire_bytes(1, topic) .. wire_int(2, partition) .. wire_bytes(3, key)
    .. (value and wire_bytes(4, value) or wire_int(5, 1))
    .. (id and wire_bytes(6, id) or '')
    .. wire_bytes(7, MESSAGE .. message) .. wire_int(8, now) .. wire_int(9, version))
end
