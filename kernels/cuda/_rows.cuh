// Work on the rows of contiguous matrices (N, C). A row is a team's: some neighbouring lanes of a warp where C is
// small, else a block. It is read twice, the second time backwards and from a cache, so memory sends it once.

constexpr int most_threads = 4096 / sizeof(scalar);  // of a block: each may have 64 registers, or of doubles 128

template <int n>
struct alignas(n * sizeof(scalar)) Pack {
    scalar values[n];
};

template <int n>
__device__ Pack<n> load(const scalar *from) {
    return *reinterpret_cast<const Pack<n> *>(from);
}

template <int n>
__device__ void store(const Pack<n> &pack, scalar *to) {
    *reinterpret_cast<Pack<n> *>(to) = pack;
}

template <int n>
struct Count {
    static constexpr int value = n;
};

// Whether rows of C elements can be read 16 bytes at a time.
__device__ inline bool in_packs(const scalar *a, int C) {
    return reinterpret_cast<unsigned long long>(a) % 16 == 0 && C * sizeof(scalar) % 16 == 0;
}

struct Add {
    template <class T>
    __device__ T operator()(T a, T b) const {
        return a + b;
    }
};

template <class T>
__device__ T shuffled(T value, int flip) {
    return __shfl_xor_sync(~0u, value, flip);
}

template <bool of_block>
struct Team {
    const int size, rank;
    // The warp's (or block's) rows, of which this team's is so many further.
    long long first, apart;
    const int further;

    __device__ explicit Team(int lanes = 32)
        : size(of_block ? blockDim.x : lanes),
          rank(threadIdx.x % size),
          first(of_block ? blockIdx.x : (blockIdx.x * (long long)blockDim.x + threadIdx.x) / 32 * (32 / lanes)),
          apart(of_block ? gridDim.x : gridDim.x * (long long)blockDim.x / lanes),
          further(of_block ? 0 : threadIdx.x % 32 / lanes) {}

    // The values of all members joined, for each of them the same bits. Every thread of the block must call.
    template <class T, class Join>
    __device__ T joined(T value, Join join) const {
        for (int flip = min(size, 32) / 2; flip; flip /= 2) value = join(value, shuffled(value, flip));
        if (of_block) {
            __shared__ T of_warps[32];
            __syncthreads();  // all have read those of the last call
            if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
            __syncthreads();
            value = of_warps[0];
            for (int warp = 1; warp < size / 32; warp++) value = join(value, of_warps[warp]);
        }
        return value;
    }

    // f(Count<n>, c) for this member's columns c, n neighbours at a time.
    template <class F>
    __device__ void columns(int C, bool packs, F f) const {
        if (packs)
            for (int c = rank * at_once; c < C; c += size * at_once) f(Count<at_once>(), c);
        else
            for (int c = rank; c < C; c += size) f(Count<1>(), c);
    }

    template <class F>
    __device__ void columns_backwards(int C, bool packs, F f) const {
        const int width = packs ? at_once : 1, begin = rank * width, step = size * width;
        for (int c = begin + (C - 1 - begin) / step * step; c >= begin && c < C; c -= step)
            if (packs)
                f(Count<at_once>(), c);
            else
                f(Count<1>(), c);
    }

    static constexpr int at_once = 16 / sizeof(scalar);
};

// m = the maximum of some scores, s = the sum of exp(x - m) of each; empty where m is -infinity.
struct Scores {
    scalar m, s;

    __device__ void add(scalar x) {  // no greater than m
        if (x != -infinity()) s += exp(x - m);  // of NaN and infinity: NaN
    }

    template <int n>
    __device__ void add(const Pack<n> &x) {
        scalar greatest = x.values[0];
        for (int i = 1; i < n; i++) greatest = fmax(greatest, x.values[i]);
        if (greatest > m) {
            s *= exp(m - greatest);
            m = greatest;
        }
        for (int i = 0; i < n; i++) add(x.values[i]);
    }

    __device__ static scalar infinity() { return __int_as_float(0x7f800000); }
    __device__ static Scores none() { return {-infinity(), 0}; }
};

__device__ inline Scores shuffled(Scores a, int flip) { return {shuffled(a.m, flip), shuffled(a.s, flip)}; }

struct Join {
    __device__ Scores operator()(const Scores &a, const Scores &b) const {
        const scalar m = fmax(a.m, b.m);
        return {m, a.s * (a.m == m ? scalar(1) : exp(a.m - m)) + b.s * (b.m == m ? scalar(1) : exp(b.m - m))};
    }
};

// f(row, how many columns it has): the rows of this team; none for one beyond N, whose members come along for `joined`.
template <bool of_block, class F>
__device__ void for_each_row(const Team<of_block> &team, long long N, int C, F f) {
    for (long long first = team.first; first < N; first += team.apart) {
        const long long row = first + team.further;
        f(row, row < N ? C : 0);
    }
}

template <bool of_block>
__device__ Scores scores_of(const Team<of_block> &team, const scalar *x, int C, bool packs) {
    Scores scores = Scores::none();
    team.columns(C, packs, [&](auto n, int c) { scores.add(load<n.value>(x + c)); });
    return team.joined(scores, Join());
}
