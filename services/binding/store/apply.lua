-- The state of a binding and all that hangs on it, written in one place.
-- Keys:  3 binding  4 number  5 tags on the number  6 index of the number  7 of the order  8 of A
--        9 of B  10 expiry  11 forget  12... requests
-- Args:  3 id  4 version  5 state (A, R)  6 expiry  7 '': shared; else by how many ms its
--        parties' rest outlasts the number's, -1: they do not rest  8 lease epoch  9 tag of A
--        10 tag of B  11 cool until  12 forget at  13 record  14 outbox entry  15 order tag
--        16 mode: '' for AXB, else its name, a colon and AXE's extension, or AXYB's Y, a colon and
--        the epoch of Y's lease  17 when the sweeper is to
--        look at it: its expiry, or before it the end of the temporary callee
-- Times are milliseconds. A binding without an order (its secrets were lost) has key 6 in place 7,
-- one without a B the key of A in place 9 and no tag of B.
-- Invariant: pairs, tags and cooling follow from the bindings alone, in whatever order these are
-- applied: a live mark wins over cooling, the later cooling over the earlier.

local REQUEST_LIFE_MS = 86400000
local MAX_PAIRS = 200

local MAX_AX = 5 -- numbers of mode AX that one party holds

-- An extension stands and rests on its number as a party does: its mark is 'x' and its digits.
local function extension_mark(mode)
  local extension = string.match(mode, '^AXE:(%d+)$')
  return extension and 'x' .. extension or ''
end

-- The keys of Y and its epoch where the mode is AXYB, else nil. They are those of X, of the same cell
-- and tenant, with Y at the end. Both parties stand on both numbers: no real number repeats on either.
local function second(keys, mode)
  local y, epoch = string.match(mode, '^AXYB:(%d+):(%d+)$')
  if not y then return nil end
  local found = {epoch = epoch, number = y}
  for place = 4, 6 do found[place] = string.sub(keys[place], 1, -#y - 1) .. y end
  return found
end

-- The AX bindings of A, beside the index of A.
local function held_by(keys)
  return keys[8] .. ':ax'
end

-- What stands under the tags of a binding on a number (`on`: its keys, in the places of X's), in one
-- read and one write.
local function apply_tags(on, args, live, ...)
  local tags, fields, gone = {}, {}, {}
  for _, tag in ipairs({...}) do
    if tag ~= '' then tags[#tags + 1] = tag end
  end
  local mark = 'L' .. args[3]
  local till = tonumber(args[11]) + (tonumber(args[7]) or 0)
  local now = live and {} or redis.call('HMGET', on[5], unpack(tags))
  for place, tag in ipairs(tags) do
    local own = now[place] == mark
    if not live and args[7] == '-1' then
      if own then gone[#gone + 1] = tag end
    elseif live or not now[place] or own or (tonumber(now[place]) and tonumber(now[place]) < till) then
      fields[#fields + 1] = tag
      fields[#fields + 1] = live and mark or whole(till)
    end
  end
  if #fields > 0 then redis.call('HSET', on[5], unpack(fields)) end
  if #gone > 0 then redis.call('HDEL', on[5], unpack(gone)) end
end

local function apply_number(on, args, live, before, epoch)
  local fields = {}
  local number = redis.call('HMGET', on[4], 'epoch', 'cool', 'pairs')
  local function set(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if tonumber(epoch) > tonumber(number[1] or '0') then set('epoch', epoch) end
  if not live and args[7] ~= '' and tonumber(args[11]) > tonumber(number[2] or '0') then
    set('cool', args[11])
  end
  if live ~= before then set('pairs', whole(tonumber(number[3] or '0') + (live and 1 or -1))) end
  if #fields > 0 then redis.call('HSET', on[4], unpack(fields)) end
end

local function apply(keys, args, sequence)
  local live = args[5] == 'A'
  local known = redis.call('HMGET', keys[3], 's', 'm')
  local before = known[1]
  redis.call('HSET', keys[3], 'v', args[4], 's', args[5], 'e', args[6], 'sq', sequence,
    'o', args[15], 'r', args[13], unpack(args[16] == '' and {} or {'m', args[16]}))
  apply_number(keys, args, live, before == 'A', args[8])
  apply_tags(keys, args, live, args[9], args[10], extension_mark(args[16]))
  local y = second(keys, args[16])
  if y then
    apply_number(y, args, live, before == 'A', y.epoch)
    apply_tags(y, args, live, args[9], args[10])
  end
  if args[16] == '' and known[2] then redis.call('HDEL', keys[3], 'm') end
  if live and args[16] == 'AX:' then redis.call('ZADD', held_by(keys), 0, args[3]) end
  if known[2] == 'AX:' and not (live and args[16] == 'AX:') then
    redis.call('ZREM', held_by(keys), args[3])
  end
  -- Also of a live one that stands: its B may be new.
  if live or not before then
    for place = 6, 9 do
      redis.call('ZADD', keys[place], 0, args[3])
    end
    if y then redis.call('ZADD', y[6], 0, args[3]) end
  end
  if live then
    redis.call('ZADD', keys[10], args[17], args[3])
  else
    redis.call('ZREM', keys[10], args[3])
    redis.call('ZADD', keys[11], args[12], args[3])
  end
end

-- Whether the parties rest from the number by the same binding, and nobody was on it since: a late call
-- of theirs can reach but each other. (An exclusive number rests from its last binding.)
local function same_again(args, cool, marks)
  local a = tonumber(marks[1] or '')
  if not a or args[10] ~= '' and tonumber(marks[2] or '') ~= a then return false end
  return args[7] == '' or cool == a - tonumber(args[7])
end

-- Why a number (its keys, in the places of X's) cannot take the binding, or nil. `sticky`: its parties
-- may have it again.
local function refused_by(on, args, epoch, now, sticky)
  local number = redis.call('HMGET', on[4], 'epoch', 'pairs', 'cool')
  local pairs_on = tonumber(number[2] or '0')
  if args[7] ~= '' then
    -- Equal: the lease was used already. Leases of a shared number run side by side, in no order.
    if tonumber(epoch) <= tonumber(number[1] or '0') then return 'LEASE_STALE' end
    if pairs_on > 0 then return 'NUMBER_OCCUPIED' end
  elseif pairs_on >= MAX_PAIRS then
    return 'NUMBER_FULL'
  end
  local cool = tonumber(number[3] or '0')
  local extension = extension_mark(args[16])
  local marks = redis.call('HMGET', on[5], args[9], args[10], extension)
  local again = sticky and same_again(args, cool, marks)
  if cool > now and not again then return 'NUMBER_COOLING' end
  for place = again and 3 or 1, 3 do
    local mark = marks[place]
    if mark and (not tonumber(mark) or tonumber(mark) > now) then
      return place == 3 and 'EXTENSION_TAKEN' or 'PARTY_ON_NUMBER'
    end
  end
end

-- Why the numbers or A cannot take the binding, and for Y which number; or nil. `sticky`: X is.
local function refused(keys, args, sticky)
  local now, y = now_ms(), second(keys, args[16])
  local why = refused_by(keys, args, args[8], now, sticky)
  if why then return {why} end
  why = y and refused_by(y, args, y.epoch, now)
  if why then return {why, y.number} end
  if args[16] == 'AX:' and redis.call('ZCARD', held_by(keys)) >= MAX_AX then
    return {'PARTY_FULL'}
  end
end
