-- One number: a hash `number:<15 digits>` with `pairs` (live bindings), `leases` (open ones), `until`
-- (end of an exclusive number's rest), `v`, `lock` (LockRecord) and `lv`, and per lease `e/<epoch>`,
-- per binding `b/<id>`. It exists once the number was touched, for good.
-- Invariant, kept by number_save alone: a touched number is counted by its class in its pool; it is
-- in `resting` exactly if it is idle (score: from when it may be leased), and a shared one is in
-- `open` exactly if it carries 1 to 199 pairs or leases and is not locked (score: how many).

local SLOTS = 200

local function class_of(n)
  if n.lock then
    return 'locked'
  elseif n.pairs > 0 then
    return 'bound'
  elseif n.leases > 0 then
    return 'leased'
  end
  return 'idle'
end

local function number_load(c, pool, number)
  local key = c.base .. 'number:' .. number
  local f = redis.call('HMGET', key, 'v', 'pairs', 'leases', 'until', 'lock')
  local n = {
    id = number,
    key = key,
    pool = pool,
    touched = f[1] ~= false,
    version = tonumber(f[1] or '0'),
    pairs = tonumber(f[2] or '0'),
    leases = tonumber(f[3] or '0'),
    till = tonumber(f[4] or '0'),
    lock = f[5],
  }
  n.was = n.touched and class_of(n) or 'fresh'
  n.had, n.rested, n.slots = n.pairs, n.till, n.pairs + n.leases
  return n
end

-- `field` and `entry`, if given, are written along.
local function number_save(c, n, version, field, entry)
  local pool, class, slots = n.pool, class_of(n), n.pairs + n.leases
  n.version = version or draw(c)
  redis.call('HSET', n.key, 'v', whole(n.version), 'pairs', n.pairs, 'leases', n.leases,
    'until', whole(n.till), field or 'v', entry or whole(n.version))
  if class ~= n.was then
    if n.was ~= 'idle' and n.was ~= 'fresh' then
      count(pool, n.was, -1)
    end
    if class ~= 'idle' then
      count(pool, class, 1)
    end
  end
  count(pool, 'pairs', n.pairs - n.had)
  if class == 'idle' and (n.was ~= 'idle' or n.till ~= n.rested) then
    redis.call('ZADD', pool.resting, whole(math.max(n.till, c.now)), n.id)
  elseif class ~= 'idle' and n.was == 'idle' then
    redis.call('ZREM', pool.resting, n.id)
  end
  if pool.shared and (slots ~= n.slots or class ~= n.was) then
    if class ~= 'locked' and slots > 0 and slots < SLOTS then
      redis.call('ZADD', pool.open, slots, n.id)
    else
      redis.call('ZREM', pool.open, n.id)
    end
  end
  n.was, n.had, n.rested, n.slots = class, n.pairs, n.till, slots
end

-- What stands in a Number: its state, and the end of its cooling where it cools.
local function number_state(c, n)
  local class = class_of(n)
  if class ~= 'idle' then
    return class, 0
  elseif not n.pool.shared and n.till > c.now then
    return 'cooling', n.till
  end
  return 'free', 0
end

local function number_answer(c, n)
  local state, till = number_state(c, n)
  return n.pool.path, state, n.pairs, whole(till), whole(n.version)
end

-- Publishes NumberChanged.
local function number_tell(c, n, partition, change, reason)
  local state, till = number_state(c, n)
  local number = wire_bytes(1, 'numbers/' .. n.id) .. wire_bytes(2, n.pool.name)
    .. wire_int(3, STATE[state]) .. wire_int(4, n.pairs)
    .. (till > 0 and wire_ms(5, till) or '') .. wire_int(6, n.version)
  local value = wire_bytes(1, number) .. wire_int(2, change)
    .. (reason and wire_bytes(3, reason) or '')
  tell(c, partition, n.id, 'NumberChanged', value, n.version)
end

-- Blind tags are 16 octets, kept one after the other.
local function split_tags(tags)
  local parts = {}
  for at = 1, #tags, 16 do
    parts[#parts + 1] = string.sub(tags, at, at + 15)
  end
  return parts
end

-- `<a>:<b>:…:<tags>`: the fields before the tags, and the tags.
local function unpack_entry(entry, fields)
  local found, from = {}, 1
  for _ = 1, fields do
    local colon = string.find(entry, ':', from, true)
    found[#found + 1] = string.sub(entry, from, colon - 1)
    from = colon + 1
  end
  return found, string.sub(entry, from)
end
