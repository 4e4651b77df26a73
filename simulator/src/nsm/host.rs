//! What the simulated kernel says about its sources of randomness and time.

/// The two files an enclave reads before it trusts its kernel, as the kernel would show them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatedHost {
    /// Content of `/sys/class/misc/hw_random/rng_current`, final newline included.
    pub rng_current: String,
    /// Content of `/sys/devices/system/clocksource/clocksource0/current_clocksource`, final
    /// newline included.
    pub clocksource: String,
}

impl Default for SimulatedHost {
    /// What a Nitro enclave shows.
    fn default() -> Self {
        Self { rng_current: "nsm-hwrng\n".to_owned(), clocksource: "kvm-clock\n".to_owned() }
    }
}
