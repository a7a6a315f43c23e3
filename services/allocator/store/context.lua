-- What a function works in: the cell's key prefix, its clock reading, its counter, and the records
-- it will publish. The counter gives lease epochs, versions of numbers and versions of records alike.
-- Invariant: it only grows, also over a loss of the store, since it begins above the store epoch's
-- first sequence (bits 32 and up of `seq`) and store epochs only grow.
-- All keys are made from the prefix of KEYS[1], so they lie in its slot.

local TERM = 4294967296

local function begin(keys)
  local base = string.sub(keys[1], 1, -5)
  return {
    base = base,
    cell = string.match(base, '{(.*)}'),
    keys = keys,
    now = now_ms(),
    pools = {},
    records = {},
    steps = 0,
  }
end

local function draw(c)
  if not c.counter then
    local seq = tonumber(redis.call('HGET', c.keys[1], 'seq') or '0')
    local stored = tonumber(redis.call('GET', c.base .. 'counter') or '0')
    c.counter = math.max(stored, math.floor(seq / TERM) * TERM)
  end
  c.counter = c.counter + 1
  return c.counter
end

-- An event, its id being its place in the cell's counter.
local function tell(c, partition, key, message, value, version)
  local id = 'allocator.' .. c.cell .. '.' .. whole(version)
  c.records[#c.records + 1] = wire_record('allocator.numbers.v1', partition, key, value, message, id,
    c.now, version)
end

-- A pool may stand in several cells, whose records must not replace each other: but for the first
-- cell's its key ends with the cell. Blocks, and what is in them, are of one cell.
local function pool_suffix(c)
  return c.cell == 'c0' and '' or '@' .. c.cell
end

-- A compacted record: `value` is the oneof field, or nil for a tombstone.
local function keep(c, partition, key, value, version)
  c.records[#c.records + 1] = wire_record('allocator.state.v1', partition, key,
    value and wire_int(1, version) .. value, 'StateRecord', nil, c.now, version)
end

local function pool_load(c, path)
  local pool = c.pools[path]
  if pool == nil then
    local key = c.base .. 'pool:' .. path
    local found = redis.call('HMGET', key, 'policy', 'cooling')
    pool = found[1] and {
      path = path,
      key = key,
      name = string.gsub(path, '^(.-)/(.*)$', 'tenants/%1/pools/%2'),
      shared = found[1] == 'shared',
      policy = found[1],
      cooling = tonumber(found[2]),
      resting = c.base .. 'resting:' .. path,
      open = c.base .. 'open:' .. path,
      blocks = c.base .. 'blocks:' .. path,
      moves = {},
    } or false
    c.pools[path] = pool
  end
  return pool
end

-- The pool that a number belongs to, false where no block of this cell holds it.
local function pool_of(c, number)
  local path = redis.call('HGET', c.base .. 'block:' .. string.sub(number, 1, 11), 'pool')
  return path and pool_load(c, path)
end

local function count(pool, field, by)
  pool.moves[field] = (pool.moves[field] or 0) + by
end

-- Ends a function's writes: counts, counter, outbox. Answers the sequence to wait for.
local function commit(c)
  for _, pool in pairs(c.pools) do
    if pool then
      for field, by in pairs(pool.moves) do
        if by ~= 0 then
          redis.call('HINCRBY', pool.key, field, by)
        end
      end
    end
  end
  if c.counter then
    redis.call('SET', c.base .. 'counter', whole(c.counter))
  end
  if #c.records == 0 then
    return redis.call('HGET', c.keys[1], 'seq')
  end
  return whole(cell_append(c.keys, table.concat(c.records)))
end
