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
    blocks = {},
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
    local f = redis.call('HMGET', key, 'policy', 'cooling', 'pair', 'gen')
    if f[1] then
      local shared, cooling = f[1] == 'shared', tonumber(f[2])
      local pair = tonumber(f[3] or (shared and f[2]) or '0')
      pool = {
        path = path,
        key = key,
        name = string.gsub(path, '^(.-)/(.*)$', 'tenants/%1/pools/%2'),
        shared = shared,
        policy = f[1],
        gen = f[4],
        cooling = cooling,
        tagged = pair > 0, -- parties are remembered: on their numbers, and as they rest from them
        rest = shared and pair or cooling, -- what a lease says and a release adds
        extra = not shared and pair > 0 and pair - cooling or 0, -- a pair's rest beyond its number's
        blocks = c.base .. 'blocks:' .. path,
        moves = {},
      }
    else
      pool = false
    end
    c.pools[path] = pool
  end
  return pool
end

-- The areas whose leases a block serves: every one, its province, its city.
local function scopes(area)
  if area == '' then
    return {''}
  end
  local province = string.sub(area, 1, 2) .. '0000'
  return area == province and {'', area} or {'', province, area}
end

-- false where this cell has no such block.
local function block_load(c, digits)
  local block = c.blocks[digits]
  if block == nil then
    local key = c.base .. 'block:' .. digits
    local f = redis.call('HMGET', key, 'pool', 'state', 'area')
    local pool = f[1] and pool_load(c, f[1])
    block = pool and {
      id = digits,
      key = key,
      pool = pool,
      state = tonumber(f[2] or '1'),
      scopes = scopes(f[3] or ''),
      rest = c.base .. 'rest:' .. digits,
      open = c.base .. 'open:' .. digits,
      free = c.base .. 'free:' .. digits,
      moves = {},
      dirty = {},
    } or false
    c.blocks[digits] = block
  end
  return block
end

-- The block that holds a number, false where it is none of this cell.
local function block_of(c, number)
  return block_load(c, string.sub(number, 1, 11))
end

-- Blocks in the order in which their numbers are looked at, per kind of number and area.
local function heads_key(c, kind, pool, scope)
  return c.base .. 'heads:' .. kind .. ':' .. pool.path .. ':' .. scope
end

local HEAD = {rest = 'ZRANGE', open = 'ZREVRANGE'}

-- A block stands among its pool's heads by its oldest idle and its fullest open number; one that is
-- not active does not stand there at all, so that suspending ten thousand numbers is one step.
local function block_head(c, block, kind)
  local top = block.state == 1 and redis.call(HEAD[kind], block[kind], 0, 0, 'WITHSCORES') or {}
  for _, scope in ipairs(block.scopes) do
    if top[1] then
      redis.call('ZADD', heads_key(c, kind, block.pool, scope), top[2], block.id)
    else
      redis.call('ZREM', heads_key(c, kind, block.pool, scope), block.id)
    end
  end
end

-- Moves a count of a pool or a block; written once, by commit.
local function count(owner, field, by)
  owner.moves[field] = (owner.moves[field] or 0) + by
end

local function write_counts(owners)
  for _, owner in pairs(owners) do
    if owner then
      for field, by in pairs(owner.moves) do
        if by ~= 0 then
          redis.call('HINCRBY', owner.key, field, by)
        end
      end
    end
  end
end

-- Ends a function's writes: counts, heads, counter, outbox. Answers the sequence to wait for, '0'
-- where the function wrote no record.
local function commit(c)
  write_counts(c.pools)
  write_counts(c.blocks)
  for _, block in pairs(c.blocks) do
    for kind in pairs(block and block.dirty or {}) do
      block_head(c, block, kind)
    end
  end
  if c.counter then
    redis.call('SET', c.base .. 'counter', whole(c.counter))
  end
  if #c.records == 0 then
    return '0'
  end
  return whole(cell_append(c.keys, table.concat(c.records)))
end
