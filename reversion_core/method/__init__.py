"""The method of "ReVersion: Diffusion-Based Relation Inversion from Images" (arXiv 2303.13495), pure torch.

R in R^d is the relation's vector among the input token embeddings; all weights are frozen but R. x0: latents of an
exemplar; eps: noise; t: timestep of T, 1000 for Stable Diffusion; x_t: x0 noised to t; c(R): text features of a
caption with R in it. Other modules cite these equations by number.

1. Denoising loss, where the target is the network's own (v or a flow's velocity where it predicts these); the code
   takes the mean over the numbers of x0 instead of their sum:

       L_denoise = E_{t ~ f} || eps - eps_theta(x_t, t, c(R)) ||^2

2. Relation-steering contrastive loss (section 4.2), multi-instance InfoNCE with gradient to R only:

       L_steer = -log [ sum_l exp(r.p_l / gamma) / ( sum_l exp(r.p_l / gamma) + sum_m exp(r.n_m / gamma) ) ]

   r, p_l, n_m: R, the positives and the negatives, L2-normalised. Positives are words of the basis of prepositions,
   drawn without replacement for each sample of a micro-batch; negatives are the exemplars' entities, the words of the
   captions that are not function words. All words of a micro-batch stand in one softmax, every occurrence counts.

3. Relation-focal importance sampling of the timestep (section 4.3), alpha in [0, 1], 0 for uniform draws:

       f(t) = (1 / T) (1 - alpha cos(pi t / T))

4. Total; published are lambda_denoise 1.0 and lambda_steer 0.01:

       L = lambda_denoise L_denoise + lambda_steer L_steer
"""
