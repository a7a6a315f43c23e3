-- One number: a hash `number:<15 digits>` with `pairs` (live bindings), `leases` (open ones), `until`
-- (end of an exclusive number's rest), `v`, `h` (its latest states), per mark (marks.lua) its record
-- and more, and per lease `e/<epoch>`, per binding `b/<id>`. It exists once the number was touched,
-- for good.
-- Invariant, kept by number_save alone: a number is counted by its class in its pool; a touched one is
-- in its block's `rest` exactly if it is idle and not reserved (score: from when it may be leased), and
-- a shared one is in `open` exactly if it carries 1 to 199 pairs or leases and is neither locked nor
-- reserved (score: how many). `free` is a bit per serial: those of the two that need not wait.

local SLOTS = 200
local HISTORY = 9 -- of 7 octets: 63, for a value of more than 64 makes the whole hash a large one
local IDLE = {idle = true, suspended = true, retired = true}
local BY_BLOCK = {'idle', 'suspended', 'retired', 'retired'} -- by the block's state
local SPREAD = {0, 1, 5, 20, 50, 100, 150, 199} -- upper ends of the classes of pairs per number

local function serial_of(number)
  return tonumber(string.sub(number, 12))
end

local function class_of(n)
  if n.lock then
    return 'locked'
  elseif n.pairs > 0 then
    return 'bound'
  elseif n.leases > 0 then
    return 'leased'
  elseif n.reserve then
    return 'reserved'
  end
  return BY_BLOCK[n.block.state]
end

local function number_load(c, block, number)
  local key = c.base .. 'number:' .. number
  local f = redis.call('HMGET', key, 'v', 'pairs', 'leases', 'until', 'lock', 'reserve', 'h')
  local n = {
    id = number,
    key = key,
    block = block,
    pool = block.pool,
    touched = f[1] ~= false,
    version = tonumber(f[1] or '0'),
    pairs = tonumber(f[2] or '0'),
    leases = tonumber(f[3] or '0'),
    till = tonumber(f[4] or '0'),
    lock = f[5],
    reserve = f[6],
    history = f[7] or '',
  }
  n.was = class_of(n)
  n.resting = n.touched and IDLE[n.was]
  n.had, n.rested, n.slots = n.pairs, n.till, n.pairs + n.leases
  n.opened = n.pool.shared and n.slots > 0 and n.slots < SLOTS and not n.lock and not n.reserve
  return n
end

-- What stands in a Number: its state, and the end of its cooling where it cools.
local function number_state(c, n)
  local class = class_of(n)
  if class == 'idle' then
    class = 'free'
  end
  if IDLE[class] or class == 'free' then
    if not n.pool.shared and n.till > c.now then
      return class == 'free' and 'cooling' or class, n.till
    end
  end
  return class, 0
end

-- The history: per state one octet for it and six for the time, newest last.
local function remember(c, n)
  local state = STATE[number_state(c, n)]
  if string.byte(n.history, -7) ~= state then
    local time = struct.pack('>BI4I2', state, math.floor(c.now / 65536), c.now % 65536)
    n.history = string.sub(n.history .. time, -7 * HISTORY)
  end
end

local function spread_of(pairs_on)
  local class = 1
  while SPREAD[class] and pairs_on > SPREAD[class] do
    class = class + 1
  end
  return class
end

local function count_number(n, class, slots)
  local pool, block = n.pool, n.block
  if class ~= n.was then -- idle ones, most of them never touched, are what the others leave over
    count(pool, n.was, -1)
    count(pool, class, 1)
    count(block, 'busy', (IDLE[n.was] and 1 or 0) - (IDLE[class] and 1 or 0))
  end
  if (slots > 0) ~= (n.slots > 0) then
    count(block, 'used', slots > 0 and 1 or -1)
  end
  if n.pairs ~= n.had then
    count(pool, 'pairs', n.pairs - n.had)
    local from, to = spread_of(n.had), spread_of(n.pairs)
    if pool.shared and from ~= to then
      count(pool, 'spread' .. from, -1)
      count(pool, 'spread' .. to, 1)
    end
  end
end

-- The block's sets. One that gets its first open number stands among the heads at once, for the next
-- item of the same call; all other changes of its heads are made by commit.
local function index_number(c, n, rests, opens, slots)
  local block = n.block
  if rests and (not n.resting or n.till ~= n.rested) then
    redis.call('ZADD', block.rest, whole(math.max(n.till, c.now)), n.id)
    block.dirty.rest = true
  elseif n.resting and not rests then
    redis.call('ZREM', block.rest, n.id)
    block.dirty.rest = true
  end
  if opens and (not n.opened or slots ~= n.slots) then
    redis.call('ZADD', block.open, slots, n.id)
    if not block.dirty.open then
      block_head(c, block, 'open')
    end
    block.dirty.open = true
  elseif n.opened and not opens then
    redis.call('ZREM', block.open, n.id)
    block.dirty.open = true
  end
  if n.pool.tagged and not (opens and n.opened) then
    local free = opens or rests and n.till <= c.now
    redis.call('SETBIT', block.free, serial_of(n.id), free and 1 or 0)
  end
end

-- `field` and `entry`, if given, are written along.
local function number_save(c, n, version, field, entry)
  local class, slots = class_of(n), n.pairs + n.leases
  n.version = version or draw(c)
  remember(c, n)
  redis.call('HSET', n.key, 'v', whole(n.version), 'pairs', n.pairs, 'leases', n.leases,
    'until', whole(n.till), 'h', n.history, field or 'v', entry or whole(n.version))
  local rests = IDLE[class]
  local opens = n.pool.shared and slots > 0 and slots < SLOTS and not n.lock and not n.reserve
  count_number(n, class, slots)
  index_number(c, n, rests, opens, slots)
  n.was, n.touched, n.resting, n.opened = class, true, rests, opens
  n.had, n.rested, n.slots = n.pairs, n.till, slots
end

local function number_answer(c, n)
  local state, till = number_state(c, n)
  return n.pool.path, state, n.pairs, whole(till), whole(n.version), n.history
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

-- Runs `change(c, n)` on the number in `args[3]` and answers its results, its end being commit.
local function with_number(keys, args, change)
  local c = begin(keys)
  local block = block_of(c, args[3])
  if not block then
    return {'NUMBER_NOT_FOUND'}
  end
  return change(c, number_load(c, block, args[3]))
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
